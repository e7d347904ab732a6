"""Closed forms that several tests hold the library against, written apart from it in plain float arithmetic."""
