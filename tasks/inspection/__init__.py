"""What a source of data holds, told before a run: counts, headers of its pictures, refusals, and a contact sheet."""
