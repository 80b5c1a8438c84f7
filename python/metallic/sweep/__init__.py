"""Sweeps: timing this package and its peers side by side (`metallic sweep`), and comparing two runs (`metallic
compare`).

suites.py says what is measured; runner.py in which order; workers.py and worker.py keep each library in a process of
its own; peers.py says how each library is called; data.py and parity.py make inputs and judge results; output.py
writes rows; show.py prints them; compare.py and stats.py compare two files. Nothing here decides what runs: that is
the dispatcher's.

Modules of this package import each other only relatively and never the package above, except in the worker that
measures it: a peer's process must not load this library.
"""
