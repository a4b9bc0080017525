"""Providers: credentials, sessions, naming. One module each; drivers use them."""
