"""The HTTP routes, and what stands before them.

| route | gives |
|---|---|
| `POST /sql` | an answer, to SQL as text or to a JSON object with the fields of `requests`; or
several, to `{"queries": [...]}` |
| `GET /sql?q=` | an answer; the options may follow |
| `GET /views`, `/views/NAME` | what can be asked, with coverage |
| `GET /streams` | what is counted, and how far |
| `GET /events` | a server-sent event for every new state |
| `GET /metrics` | what is measured, for Prometheus |
| `GET /healthz` | 200 while the loop turns |
| `GET /readyz` | 200 while what is served is checked and caught up; else 503 and why. A view that
is being built or cannot be loaded is named under `waiting` and does not take the others down |
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from serving.front.answers import Answers
from serving.front.authorised import Authorised
from serving.front.compression import Compressed
from serving.front.correlation import Correlated
from serving.front.events import Events
from serving.front.health import Health
from serving.front.neighbours import OnlyOwn
from serving.front.refusals import HANDLERS
from serving.front.sql import Sql
from serving.front.tokens import Tokens
from serving.front.views import Views
from serving.front.watch import Watch, Watched


def application(
    front: Answers, hosts: frozenset[str] | None, tokens: Tokens | None, watch: Watch
) -> Starlette:
    """The ASGI application. `hosts` are the names it may be called by; None is any. Without
    `tokens` anybody may ask. What `front` answers is measured by `watch`."""
    front = Watched(front, watch)
    views, health, events = Views(front), Health(front, watch, tokens), Events(front)
    app = Starlette(
        routes=[
            Route("/sql", Sql(front).answer, methods=["GET", "POST"]),
            Route("/views", views.all),
            Route("/views/{name}", views.one),
            Route("/streams", views.streams),
            Route("/events", events.listen),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
        ],
        middleware=[
            Middleware(Correlated),
            Middleware(OnlyOwn, hosts=hosts),
            Middleware(Authorised, tokens=tokens),
            Middleware(Compressed),
        ],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    app.state.events, app.state.refused = events, watch.queries.refused
    return app
