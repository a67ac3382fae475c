"""Front ends to other frameworks; each is imported only by who asks for it."""
