"""The public functions: names, defaults and documentation; everything else is below."""
