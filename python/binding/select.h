/* Reads the made-up operations, devices and preferences of the test functions in select.c. */
#ifndef MLPY_SELECT_H
#define MLPY_SELECT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/op.h"

/* Memory behind ml_caps.kernels and .tuning. Names in it are borrowed from the dicts they were read from. */
typedef struct mlpy_rows {
    ml_kernel_desc *kernels;
    ml_tuning_row *tuning;
} mlpy_rows;
void mlpy_rows_free(mlpy_rows *rows);

/* Each returns 0, or -1 with an exception set. */
int mlpy_read_case(const char *op_name, PyObject *dict, ml_op *op);
int mlpy_read_caps(PyObject *dict, ml_caps *caps, mlpy_rows *rows);
int mlpy_read_plan(ml_op_kind op, PyObject *dict, ml_plan *plan);
/* Keywords of ml.Context plus "strict"; *status is the core's when it refuses one. */
int mlpy_read_prefs(PyObject *dict, ml_prefs *prefs, ml_status *status);

/* A dict of preferences as the core takes them: values become str(value), None stays NULL. */
typedef struct mlpy_pref_list {
    ml_pref *items;
    int n;
    PyObject *hold;
} mlpy_pref_list;
int mlpy_read_pref_list(PyObject *dict, mlpy_pref_list *out);
void mlpy_pref_list_free(mlpy_pref_list *list);

PyObject *mlpy_select(PyObject *self, PyObject *args);
PyObject *mlpy_plan_key(PyObject *self, PyObject *args);
PyObject *mlpy_parse_prefs(PyObject *self, PyObject *args);
extern PyMethodDef mlpy_select_functions[]; /* for PyModule_AddFunctions */

#endif
