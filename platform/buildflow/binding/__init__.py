"""What fits what: one checker over Signature values, used by the compiler and by every process that starts."""
