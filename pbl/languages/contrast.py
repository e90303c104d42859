"""Contrastive learning, in Japanese."""

CONTRAST = {}
