"""Parts of an inference of a run.

``job`` has its processes and settings, ``ranking`` orders the candidates, ``shortlist`` picks those that are shown, and
``columns`` describes the table.
"""
