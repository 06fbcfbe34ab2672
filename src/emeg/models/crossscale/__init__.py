"""Encoder whose layers act at several scales: kernels over steps, kernels over regions, attention between both.

positions ──find_layout──▶ regions and kernels
features ──kernels over steps──kernels in regions──attention between windows──attention to regions──▶ hidden
"""
