from services.copygen.bind import bind
from services.runtime import main

main("copygen", bind)
