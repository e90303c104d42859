"""Files that can be trusted: written whole or not at all, read with care, locked, swept, and shown without harm.

In reading order: `writing`, `reading`, `schemas` (what JSON holds), `lock`, `escapes` (one function each for screen, CSV, Markdown and
shell), `trust` (whose code a run's experiment file is).
"""
