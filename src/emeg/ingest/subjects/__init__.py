"""Tables about subjects, sessions and recordings: read from an archive, typed, and freed of private columns.

participants.tsv, sessions.tsv, scans.tsv ─tables─▶ cells by subject ─private─▶ what may be kept ─typing─▶ Arrow tables
"""
