"""The fuzz drill: odd requests to a shop of its own, and checks of each answer.

``python -m tests.tools.fuzz`` runs it. ``drill`` is the way in, and ``checks`` lists what is
checked.
"""
