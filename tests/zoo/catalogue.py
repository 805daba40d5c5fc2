"""The networks by the name that the Model Zoo gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.zoo import darknet, resnet, small, yolo
from tests.zoo.net import Net

NETWORKS: Mapping[str, Callable[[], Net]] = {
    "centernet_resnet_v1_18_postprocess": resnet.centernet,
    "dncnn3": lambda: small.dncnn(1),
    "dncnn_color_blind": lambda: small.dncnn(3),
    "efficientnet_lite1": lambda: small.efficientnet_lite(240, 1.0, 1.1),
    "efficientnet_lite3": lambda: small.efficientnet_lite(280, 1.2, 1.4),
    "efficientnet_lite4": lambda: small.efficientnet_lite(300, 1.4, 1.8),
    "face_attr_resnet_v1_18": lambda: resnet.classifier(size=(218, 178), hidden=(512, 512), classes=80),
    "fcn8_resnet_v1_18": resnet.fcn8,
    "inception_v1": small.inception,
    "mobilenet_v1": small.mobilenet,
    "person_attr_resnet_v1_18": lambda: resnet.classifier(classes=35),
    "regnetx_1.6gf": lambda: small.regnetx((72, 168, 408, 912), (2, 4, 10, 2), 24),
    "regnetx_800mf": lambda: small.regnetx((64, 128, 288, 672), (1, 3, 7, 5), 16),
    "repvgg_a0_person_reid_512": lambda: small.repvgg((48, 96, 192, 1280), (256, 128), out=512),
    "repvgg_a2": lambda: small.repvgg((96, 192, 384, 1408)),
    "resnet_v1_18": resnet.classifier,
    "resnet_v1_34": lambda: resnet.classifier((3, 4, 6, 3)),
    "resnext26_32x4d": resnet.resnext26,
    "scdepthv3": resnet.scdepth,
    "squeezenet_v1.1": small.squeezenet,
    "tddfa_mobilenet_v1": lambda: small.mobilenet(120, 62),
    "tiny_yolov3": darknet.tiny_yolov3,
    "tiny_yolov4": darknet.tiny_yolov4,
    "yolov3_416": lambda: darknet.yolov3(416),
    "yolov5l_seg": lambda: yolo.yolov5_6(1.0, 1.0, masks=True),
    "yolov5m": lambda: yolo.yolov5_2(0.75, 0.67),
    "yolov5m_6.1": lambda: yolo.yolov5_6(0.75, 0.67),
    "yolov5n_seg": lambda: yolo.yolov5_6(0.25, 0.33, masks=True),
    "yolov5s": lambda: yolo.yolov5_2(0.5, 0.33),
    "yolov5s_seg": lambda: yolo.yolov5_6(0.5, 0.33, masks=True),
    "yolov6n": yolo.yolov6n,
    "yolov8l": lambda: yolo.yolov8(1.0, 1.0, 512),
    "yolov8m": lambda: yolo.yolov8(0.75, 0.67, 768),
    "yolov8m_pose": lambda: yolo.yolov8(0.75, 0.67, 768, "pose"),
    "yolov8m_seg": lambda: yolo.yolov8(0.75, 0.67, 768, "segment"),
    "yolov8n": lambda: yolo.yolov8(0.25, 0.33, 1024),
    "yolov8n_seg": lambda: yolo.yolov8(0.25, 0.33, 1024, "segment"),
    "yolov8s": lambda: yolo.yolov8(0.5, 0.33, 1024),
    "yolov8s_pose": lambda: yolo.yolov8(0.5, 0.33, 1024, "pose"),
    "yolov8x": lambda: yolo.yolov8(1.25, 1.0, 512),
    "yolox_l_leaky": lambda: yolo.yolox(1.0, 1.0, "leaky"),
}
