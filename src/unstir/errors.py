"""The one exception whose message is written for the user."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave cannot be used: one line that says what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2; Python callers see an ordinary exception.
    """
