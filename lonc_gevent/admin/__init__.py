# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP API on the admin socket: status, metrics, health and a few commands.

server.py       which path is answered by what
http_server.py  limits on HTTP clients: connections, bytes, work, time
documents.py    large documents, made once for clients that ask at the same time
controls.py     what may be done to a host: pause, resume, reconnect
status.py       the status document
history.py      the last 15 minutes, for charts and recent quantiles
metrics.py      the same counts for Prometheus
page/           the status page, one file
"""
