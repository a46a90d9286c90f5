"""Measuring what a push depends on: this machine, a source datastore, a target and the way there.

``Bench`` (in ``suite``) measures and judges; ``html_page`` (in ``html``) and ``bench_document`` (in
``report``) show what came out (docs/bench.md).
"""
