"""Plate solving strategies behind one protocol (base.py), the geometry of a solved frame, and footprints.

=============================  ====================================================
strategy in the configuration  solver
=============================  ====================================================
already_plate_solved           header_wcs.HeaderWcsSolver
plate_solve                    solve_field.SolveFieldSolver, hosted.HostedSolver
alternate_gaia_solve           catalog_match.CatalogMatchSolver
adapt_wcs_from_reference       reference_wcs.ReferenceWcsSolver
=============================  ====================================================
"""
