"""Attacks on the promise: each is proved by a broken program that it must catch.

``python -m tests.torture --quick`` runs all of them in about a minute; without ``--quick`` they run
as long as a release deserves. A module of this package that has an ``ATTACK`` is one.
"""
