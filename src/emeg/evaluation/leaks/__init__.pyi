from .all_checks import CHECKS as CHECKS, run_checks as run_checks, stop_on_leaks as stop_on_leaks
from .gather import declared_datasets as declared_datasets, gather_setup as gather_setup
from .isolation import ISOLATION as ISOLATION, Procedure as Procedure, check_isolation as check_isolation
from .people import declared_and_tested as declared_and_tested
from .setup import Check as Check, FitRecord as FitRecord, Setup as Setup, Sides as Sides
