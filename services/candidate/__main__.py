from services.candidate.bind import bind
from services.runtime import main

main("candidate", bind)
