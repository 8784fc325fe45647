"""File formats: imported frames, cutouts, prepared cutouts, light curves. Every write is atomic."""
