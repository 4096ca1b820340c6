"""Races in published packages, each with its transcript, a mend, and the pass after it."""
