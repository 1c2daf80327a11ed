"""``rmatk infer --web``: a page beside the running loop, its API, and monitoring.

    sink      the loop's end: takes results and never waits
    live      the current result, for any number of viewers
    meter     counts and latencies; Prometheus' text
    snapshots pictures kept for the next training
    region_api  regions, seen and changed
    api       what the page and other programs may ask
    guard     who may ask: token, origin, host
    server    the socket and its thread
    static/   the page: no build step, nothing from elsewhere

Everything needs the extra ``web``, so this package is imported only where ``--web`` is given.
"""
