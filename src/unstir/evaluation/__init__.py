"""Evaluation: likelihood in bits/dim, and the report."""
