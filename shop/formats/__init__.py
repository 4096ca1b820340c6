"""How dates are written where a template doesn't say it: in the admin."""
