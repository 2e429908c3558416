"""The words of Stelae as frozen data: no I/O, no clock, standard library only."""
