"""Exports a trained model for other runtimes: phones, the web, servers. Each file is read back and compared before it is kept."""

from pbl import offer

__getattr__, __dir__, __all__ = offer(__name__, {"run": "export_run", "formats": "FORMATS"})
