"""Who may ask for what: API keys, scopes, rates, and the headers that keep pages harmless."""

from mmseek.api.server.security.keys import ApiKey, KeyRing, Scope, new_key, read_keys, write_keys

__all__ = ["ApiKey", "KeyRing", "Scope", "new_key", "read_keys", "write_keys"]
