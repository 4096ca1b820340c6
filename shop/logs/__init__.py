"""The shop's log lines: what they say of themselves, how they are written, what they leave out.

- ``context``: the request, the order and the product that a line is about.
- ``formats``: a line as text or as JSON; the setting LOGGING.
- ``scrubbing``: what no line ever shows. Each format asks it last, so that each handler does.
- ``failures``: errors that nobody has caught become lines, too.
- ``sentry``: errors go to Sentry, scrubbed in the same way.
"""

from shop.logs.context import begin, bind, bind_order, carry, hide, request_id, unbind

__all__ = ["begin", "bind", "bind_order", "carry", "hide", "request_id", "unbind"]
