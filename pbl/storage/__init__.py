"""Files that can be trusted: written completely or not at all, read with care, locked, cleaned up, and shown without harm.

In reading order: `writing`, `reading`, `schemas` (what JSON contains), `lock`, `escapes` (one function each for screen, CSV, Markdown and
shell), `trust` (whose code a run's experiment file is).
"""
