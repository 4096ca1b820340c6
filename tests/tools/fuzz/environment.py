"""The settings of the drill's shop."""

# Every limit is counted, and none is ever reached: all requests come from one address.
AS_IN_PRODUCTION = {
    "WEB_CONCURRENCY": "1",
    "DEBUG": "off",
    "FAST_LANE": "on",
    "DEMO": "on",  # it has all pages
    "ALLOWED_HOSTS": "localhost,127.0.0.1",
    "BASE_URL": "http://localhost",
    "PAGES_PER_ADDRESS": "100000000/h",
    "POSTS_PER_ADDRESS": "100000000/h",
    "METRICS_TOKEN": "a-token-of-the-drill",  # it is never sent
    "MOST_UNITS_PER_ADDRESS": "1000000",
}
