# SPDX-License-Identifier: GPL-2.0-or-later
"""How gunicorn runs the example (gunicorn --config gunicorn.conf.py).

LONC_CONFIG       lonc's TOML file; says where the sockets are (needed)
LONC_WEB_BIND     where to listen, 127.0.0.1:8000 unless it says otherwise
LONC_WEB_WORKERS  "sync" (a process a request) or "gevent" (greenlets)

Both kinds of workers run the same application. gunicorn's gevent worker patches the standard
library itself, before it loads the application: so waiting for a reply switches greenlets.
"""

import os
from pathlib import Path

wsgi_app = "app:application"
pythonpath = str(Path(__file__).parent)
bind = os.environ.get("LONC_WEB_BIND", "127.0.0.1:8000")
worker_class = os.environ.get("LONC_WEB_WORKERS", "sync")
workers = 2
timeout = 30
graceful_timeout = 5
accesslog = None
control_socket_disable = True
