"""Segmentations in the formats that clinics and labs open next."""
