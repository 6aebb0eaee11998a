"""Checks of persistence, each yielding findings; the persistence drill."""
