"""The ways to a ps task; each gives a ``ps_protocol.ps_service.PsService``."""
