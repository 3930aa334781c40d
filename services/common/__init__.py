"""The ground floor: knows no room. Each outside library has one door here."""
