"""Judged by a real llama-server: its buffers, and the models that it serves."""
