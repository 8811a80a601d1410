#include <math.h>
#include "kernel.h"
#define SET(name) name##_plain
#include "loops.inc"
