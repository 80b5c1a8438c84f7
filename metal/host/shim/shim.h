// Everything translated code may use; precompiled by the host.
#pragma once

#include "internals.h"
