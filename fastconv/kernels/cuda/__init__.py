"""Kernels for CUDA devices; nothing here is imported before the first call that asks for one."""
