"""The one page: the version that answers, a form, and the last entries."""

from __future__ import annotations

import secrets
from html import escape

from app.store import Entry

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guestbook, version {version}</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }}
  input, button {{ font: inherit; padding: .3rem .6rem; }}
  small {{ color: #555; }}
</style>
<h1>Guestbook</h1>
<p>Version <strong>{version}</strong> <small>answered by {instance}</small></p>
<form method="post" action="/entries">
  <input type="hidden" name="id" value="{id}">
  <label>Say something: <input name="text" maxlength="500" required autofocus></label>
  <button>Sign</button>
</form>
{entries}
</html>
"""


def render(*, version: str, instance: str, entries: tuple[Entry, ...] | None) -> str:
    """Return the page; *entries* is None when they cannot be read now."""
    if entries is None:
        shown = "<p role='alert'>The entries cannot be read now.</p>"
    elif entries:
        shown = "<ul>\n" + "".join(f"<li>{escape(entry.text)}</li>\n" for entry in entries) + "</ul>"
    else:
        shown = "<p>Nobody has signed yet.</p>"
    return _PAGE.format(version=escape(version), instance=escape(instance), id=secrets.token_hex(8), entries=shown)
