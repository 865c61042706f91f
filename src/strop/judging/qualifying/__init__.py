"""How far a judge agrees with people, beside what needs no judge; and the certificate that recipes ask for."""
