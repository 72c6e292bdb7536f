"""The wire protocol: bytes, messages, authentication, frames and credits (PROTOCOL.md)."""
