"""Representations of several kinds to one."""
