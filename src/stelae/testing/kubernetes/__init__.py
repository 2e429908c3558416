"""A double of a cluster: an API server on a real socket, with controllers and a kubelet that play what runs.

It answers as a real server was recorded to (``tests/fixtures/kubernetes``), refuses and fails when it is told to, and
counts what it is asked.
"""

from stelae.testing.kubernetes.double import Double as Double
from stelae.testing.kubernetes.program import Program as Program
