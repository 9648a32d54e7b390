"""HTTP API over warehouse and forecasting: routes, authentication, serialization and one page.

`api.app.create_app` assembles it.
"""
