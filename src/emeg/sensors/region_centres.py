"""Centres of brain regions in MNI152 coordinates.

Cortex
------
Centres of the 100 parcels of Schaefer et al. 2018 (Cerebral Cortex 28:3095), file
``Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.Centroid_RAS.csv`` of ThomasYeoLab/CBIG at commit d1454a6. The
parcels follow functional networks, so the lobe of each centre was assigned for this table, by its coordinates. Centres
on the central sulcus (mouth and hand areas) count as frontal.

Copyright (c) 2016 Computational Brain Imaging Group (CBIG), MIT licence: see ``region_centres.LICENSE`` in this folder.

Nuclei, hippocampus, amygdala, brain stem, cerebellum
-----------------------------------------------------
Points along these structures, rounded to 2 mm, written for this table from the coordinates that the literature commonly
gives for them; no atlas file was read. Licence: that of this project.
"""

from types import MappingProxyType

LOBES = (
    "frontal",
    "parietal",
    "temporal",
    "occipital",
    "insula",
    "cingulate",
    "medial temporal",
    "basal ganglia",
    "thalamus",
)
"""Regions that each hemisphere has."""

MIDLINE = ("brain stem", "cerebellum")
"""Regions that are not divided into hemispheres."""

OUTER = ("frontal", "parietal", "temporal", "occipital")
"""Regions of the outer surface, which are nearest to sensors outside the head."""

CENTRES_MM: MappingProxyType[str, tuple[tuple[int, int, int], ...]] = MappingProxyType(
    {
        "frontal": (
            *((-54, -12, 14), (-54, -8, 34), (-40, -22, 58), (-6, -28, 70), (-48, 6, 28), (-26, -4, 60)),
            *((-30, 44, 30), (-6, 4, 62), (-14, 32, -20), (-44, 32, 20), (-34, 22, -10), (-46, 34, -4)),
            *((-6, 46, 0), (-24, 60, -2), (-8, 48, 42), (-40, 14, 48), (-26, 20, 52)),
            *((56, -4, 12), (58, -6, 30), (46, -12, 48), (40, -22, 60), (6, -28, 70), (48, 10, 26), (28, -2, 60)),
            *((8, 6, 52), (12, 34, -20), (30, 58, -2), (46, 38, 16), (32, 46, 30), (44, 16, 44), (36, 26, -16)),
            *((50, 28, 0), (6, 48, 0), (12, 50, 40), (26, 24, 50)),
        ),
        "parietal": (
            *((-58, -24, 38), (-24, -68, 50), (-42, -34, 48), (-6, -60, 56), (-22, -50, 66), (-58, -38, 30)),
            *((-38, -52, 46), (-10, -74, 38), (-48, -64, 36)),
            *((30, -38, 64), (50, -24, 42), (38, -46, 50), (26, -66, 52), (14, -52, 66), (60, -26, 28)),
            *((58, -38, 44), (46, -62, 46), (10, -66, 42), (54, -50, 30)),
        ),
        "temporal": (
            *((-26, -34, -18), (-54, -22, 8), (-46, -58, -12), (-32, 2, -38), (-58, -32, -22), (-56, -4, -20)),
            *((-58, -32, -2), (-58, -50, 12)),
            *((32, -32, -22), (50, -60, -10), (52, -16, 6), (50, -62, 16), (58, -42, 12), (38, 0, -38)),
            *((62, -24, -18), (50, 6, -18), (58, -26, -2)),
        ),
        "occipital": (
            *((-26, -76, -14), (-18, -60, -6), (-26, -96, -4), (-6, -92, -2), (-12, -66, 6), (-48, -70, 10)),
            *((-26, -88, 20), (-6, -82, 26)),
            *((28, -66, -12), (22, -96, -4), (8, -76, 6), (18, -58, 6), (36, -82, 16), (12, -86, 30)),
        ),
        "insula": ((-36, -22, 16), (-42, -2, -6), (-38, 12, 6), (40, -16, 16), (40, 8, 2)),
        "cingulate": (
            *((-6, 20, 34), (-12, -34, 46), (-4, -26, 34), (-12, -56, 12), (-6, -52, 34)),
            *((12, -32, 46), (6, -28, 34), (6, 28, 30), (12, -54, 14), (6, -52, 30)),
        ),
        "medial temporal": (
            *((-22, -4, -20), (-24, -14, -20), (-28, -24, -12), (-26, -34, -6)),
            *((22, -4, -20), (24, -14, -20), (28, -24, -12), (26, -34, -6)),
        ),
        "basal ganglia": (
            *((-12, 12, 10), (-14, -4, 20), (-26, 6, 2), (-28, -8, 2), (-18, -2, 0), (-10, 10, -8), (-12, -14, -8)),
            *((12, 12, 10), (14, -4, 20), (26, 6, 2), (28, -8, 2), (18, -2, 0), (10, 10, -8), (12, -14, -8)),
        ),
        "thalamus": ((-10, -12, 8), (-12, -24, 8), (10, -12, 8), (12, -24, 8)),
        "brain stem": ((0, -18, -12), (0, -28, -28), (0, -38, -46)),
        "cerebellum": (
            *((-16, -54, -24), (-28, -66, -32), (-40, -62, -44), (-16, -72, -44)),
            *((16, -54, -24), (28, -66, -32), (40, -62, -44), (16, -72, -44), (0, -64, -28)),
        ),
    }
)
"""Centres by region, MNI152, mm; the sign of x is the hemisphere, positive to the right."""
