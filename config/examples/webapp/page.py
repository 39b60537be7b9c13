# SPDX-License-Identifier: GPL-2.0-or-later
"""The example's page: one HTML file with its style in it, and no script."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2330;
  --soft: #5b6576; --line: #e2e6ec; --up: #12704a; --up-bg: #e2f4ea; --down: #a4262c;
  --down-bg: #fbe6e6; --accent: #2456b8; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161d; --card: #1a202a;
  --ink: #e5e9f0; --soft: #98a3b5; --line: #2c3543; --up: #6fd8a5; --up-bg: #16372a;
  --down: #ff9a9a; --down-bg: #43211f; --accent: #8ab4ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
header { margin-bottom: 1.75rem; }
h1 { margin: 0; font-size: 1.6rem; font-weight: 650; letter-spacing: -.01em; }
header p, footer { margin: .25rem 0 0; color: var(--soft); font-size: .9rem; }
.cards { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr));
  align-items: start; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.25rem 1.4rem 1.4rem; }
a { color: var(--accent); }
h2 { margin: 0 0 .9rem; font-size: 1.05rem; font-weight: 600; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; padding: .6rem .75rem .6rem 0; border-top: 1px solid var(--line); }
thead th { border: 0; padding-top: 0; color: var(--soft); font-size: .8rem; font-weight: 500; }
tbody th { font-weight: 550; }
.number { font-variant-numeric: tabular-nums; }
.none { color: var(--soft); font-size: .9rem; }
.state { display: inline-block; padding: .05rem .6rem .1rem; border-radius: 1rem;
  font-size: .85rem; white-space: nowrap; }
.state::before { content: ""; display: inline-block; width: .5em; height: .5em;
  margin-right: .45em; vertical-align: .08em; background: currentColor; }
.up .state { color: var(--up); background: var(--up-bg); }
.up .state::before { border-radius: 50%; }
.down .state { color: var(--down); background: var(--down-bg); }
meter { width: 100%; min-width: 4rem; height: .8rem; vertical-align: middle; }
form { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; margin-bottom: 1.1rem; }
label { font-size: .8rem; color: var(--soft); }
input, select, button { width: 100%; font: inherit; color: inherit; background: var(--ground);
  border: 1px solid var(--line); border-radius: .45rem; padding: .4rem .6rem;
  min-height: 2.4rem; }
button { grid-column: 1 / -1; background: var(--accent); color: var(--card);
  border-color: transparent; font-weight: 600; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
dl { margin: 0; display: grid; grid-template-columns: 7rem 1fr; }
dt, dd { margin: 0; padding: .5rem 0; border-top: 1px solid var(--line); }
dt { color: var(--soft); }
dd { overflow-wrap: anywhere; }
.notice { margin: 0; padding: .8rem 1rem; border-radius: .5rem; color: var(--down);
  background: var(--down-bg); }
footer { margin-top: 1.5rem; }
@media (max-width: 30rem) { main { padding-top: 1.5rem; } form { grid-template-columns: 1fr; } }
"""

STYLE_HASH = f"sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}"
"""What the Content-Security-Policy lets in: this style, and nothing else."""

PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The network at $at</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>The network</h1>
<p>$count hosts, asked at $at, all at once. <a href="">Ask again</a></p>
</header>
<div class="cards">
<section aria-labelledby="hosts">
<h2 id="hosts">Hosts</h2>
<table>
<thead><tr><th scope="col">Host</th><th scope="col">State</th>
<th scope="col" colspan="2">Load</th></tr></thead>
<tbody>$rows</tbody>
</table>
</section>
<section aria-labelledby="user">
<h2 id="user">A user</h2>
<form method="get" action="/">
<div><label for="name">User</label><input id="name" name="user" value="$user_name" required></div>
<div><label for="dom">Domain</label><input id="dom" name="domain" value="$domain" required></div>
<div><label for="host">Host</label><select id="host" name="host">$options</select></div>
<button>Fetch</button>
</form>
$user
</section>
<section aria-labelledby="change">
<h2 id="change">Change the languages</h2>
<form method="post" action="/">
<input type="hidden" name="user" value="$user_name">
<input type="hidden" name="domain" value="$domain">
<div><label for="at">On host</label><select id="at" name="host">$options</select></div>
<div><label for="lang">Languages</label><input id="lang" name="languages" required></div>
<button>Save</button>
</form>
</section>
</div>
<footer>Answered in $milliseconds&nbsp;ms by lonc-gevent.</footer>
</main>
</body>
</html>
"""
