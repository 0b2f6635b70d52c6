"""Tests of how far an attribution can be trusted."""
