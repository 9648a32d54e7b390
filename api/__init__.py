"""FastAPI over warehouse and forecasting: auth, routes, exports, one page. `api.app.create_app` puts it together."""
