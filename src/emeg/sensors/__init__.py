"""Type, position, orientation and unit of every channel; layouts; channel names.

``mne.Info`` ──names, coils──▶ ``sensors_from_info`` ──▶ ``Sensors`` ──▶ ``check_geometry``
                                                            ├──▶ ``layout_id``, ``model_positions``
                                                            ├──▶ ``sensor_regions`` (lobes and nuclei)
                                                            ├──▶ ``shared_sensors`` (of several recordings)
                                                            └──▶ ``topographic_xy`` (sensor maps)

Importing needs numpy alone; mne is imported by the functions that read an ``mne.Info`` or a montage.
"""

from emeg.sensors.geometry import check_geometry
from emeg.sensors.layout import Sensors, SensorType
from emeg.sensors.names import is_bipolar, match_names, other_kind, standard_name
from emeg.sensors.pick import PickedSensors, sensors_from_info
from emeg.sensors.projection import topographic_xy
from emeg.sensors.regions import REGIONS, nearest_region, positions_with_regions, sensor_regions
from emeg.sensors.shared import sensor_keys, shared_sensors

__all__ = [
    "REGIONS",
    "PickedSensors",
    "SensorType",
    "Sensors",
    "check_geometry",
    "is_bipolar",
    "match_names",
    "nearest_region",
    "other_kind",
    "positions_with_regions",
    "sensor_keys",
    "sensor_regions",
    "sensors_from_info",
    "shared_sensors",
    "standard_name",
    "topographic_xy",
]
