"""The protocol of an evaluation over many tasks: splits, cells of the grid, their rows, and the run over them.

task recipes ──windows──▶ splits (frozen) ──▶ cells: task × model × seed × fold ──▶ rows ──▶ evaluations/<evaluation>/
"""
