"""The grid task × model × seed × fold: planned, computed by one or several processes, and published.

configuration ──planning──▶ Grid ──execution──▶ cells in runs/ ──publication──▶ evaluations/<evaluation>/
"""
